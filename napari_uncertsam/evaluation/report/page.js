"use strict";
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const value = (row) => {
        const cell = row.cells[column];
        return "sort" in cell.dataset ? parseFloat(cell.dataset.sort) : cell.textContent.trim();
      };
      const order = (a, b) => {
        if (typeof a === "string") return sign * a.localeCompare(b);
        // What has no number is last, in both directions.
        if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
        return sign * (a - b);
      };
      body.append(...[...body.rows].sort((a, b) => order(value(a), value(b))));
    });
  });
}
