// Tables whose columns can be sorted and hidden. Without the script they are plain tables.
const number = (cell) => {
  const given = cell.dataset.sort ?? cell.textContent.trim().replace("\u2212", "-");
  return given === "" ? NaN : Number(given);
};

/** The parts that sorting rearranges: the bodies of a table if it has several, else its rows. */
const units = (table) => (table.tBodies.length > 1 ? [...table.tBodies] : [...table.tBodies[0].rows]);
const cellOf = (unit, place) => (unit.rows ? unit.rows[0] : unit).cells[place];

function sort(table, place, descending) {
  const list = units(table);
  const numeric = list.some((unit) => !Number.isNaN(number(cellOf(unit, place))));
  const compare = (first, second) => {
    const [one, other] = [cellOf(first, place), cellOf(second, place)];
    if (!numeric) return one.textContent.trim().localeCompare(other.textContent.trim(), undefined, { numeric: true });
    const [left, right] = [number(one), number(other)];
    // Cells without a number come last in either order.
    if (Number.isNaN(left) || Number.isNaN(right)) return (Number.isNaN(left) - Number.isNaN(right)) * (descending ? -1 : 1);
    return left - right;
  };
  list.sort((first, second) => (descending ? -compare(first, second) : compare(first, second)));
  for (const unit of list) unit.parentNode.append(unit);
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending"
        || (head.getAttribute("aria-sort") === null && head.classList.contains("figure"));
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sort(table, place, descending);
    });
  });
  if (table.classList.contains("hides")) table.parentNode.before(choices(table, heads));
}

function choices(table, heads) {
  const box = document.createElement("details");
  box.className = "columns";
  const summary = document.createElement("summary");
  summary.textContent = "columns";
  box.append(summary);
  heads.slice(1).forEach((head, index) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
    input.addEventListener("change", () => {
      for (const row of table.rows) row.cells[index + 1].hidden = !input.checked;
    });
    label.append(input, head.textContent);
    box.append(label);
  });
  return box;
}
