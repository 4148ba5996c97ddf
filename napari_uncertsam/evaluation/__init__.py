"""How good a mask is, and how well an uncertainty map knows where it is wrong."""
