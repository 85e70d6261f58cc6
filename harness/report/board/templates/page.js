"use strict";
// Sorting and opening of rows. A row is a <tbody>: its group, its twin and its details move together.
(() => {
  document.documentElement.classList.add("js");
  const NUMERIC = /^-?\d+(\.\d+)?(e[-+]?\d+)?$/i;
  const value = (body, key) => {
    const text = body.querySelector(`.main [data-key="${key}"]`).dataset.sort;
    return text === undefined ? null : NUMERIC.test(text) ? Number(text) : text;
  };
  const sort = (table, key, direction) => {
    const sign = direction === "descending" ? -1 : 1;
    const bodies = [...table.tBodies].map((body) => [value(body, key), Number(body.dataset.place), body]);
    bodies.sort(([a, i], [b, j]) => {
      if (a === null || b === null) return (a === null) - (b === null) || i - j; // what has no value stays last
      return sign * (a < b ? -1 : a > b ? 1 : 0) || i - j;
    });
    table.append(...bodies.map(([, , body]) => body));
    for (const th of table.tHead.rows[0].cells) {
      if (th.dataset.key === key) th.setAttribute("aria-sort", direction);
      else th.removeAttribute("aria-sort");
    }
  };
  const other = (direction) => (direction === "ascending" ? "descending" : "ascending");

  const addSorter = (table, heads) => { // a phone shows cards, which have no header to click on
    const bar = document.createElement("div");
    bar.className = "sorter";
    const label = document.createElement("label");
    label.textContent = "sort by ";
    const select = document.createElement("select");
    for (const th of heads) select.add(new Option(th.textContent === "#" ? "rank" : th.textContent, th.dataset.key));
    const turn = document.createElement("button");
    turn.type = "button";
    turn.textContent = "reverse";
    const head = () => heads.find((th) => th.dataset.key === select.value);
    select.addEventListener("change", () => sort(table, select.value, head().dataset.first));
    turn.addEventListener("click", () => sort(table, select.value, other(head().getAttribute("aria-sort"))));
    label.append(select);
    bar.append(label, turn);
    table.parentElement.before(bar);
  };

  let count = 0;
  for (const table of document.querySelectorAll("table.board")) {
    const heads = [...table.tHead.rows[0].cells];
    [...table.tBodies].forEach((body, place) => {
      body.dataset.place = place;
      const more = body.querySelector(".more");
      const name = body.querySelector(".main .lane");
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name.textContent;
      more.id = `more-${count++}`;
      more.hidden = true;
      more.querySelector("details").open = true;
      button.setAttribute("aria-expanded", "false");
      button.setAttribute("aria-controls", more.id);
      button.addEventListener("click", () => {
        more.hidden = !more.hidden;
        button.setAttribute("aria-expanded", String(!more.hidden));
      });
      name.replaceChildren(button);
    });
    addSorter(table, heads);
    for (const th of heads) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = th.textContent;
      button.addEventListener("click", () => {
        const now = th.getAttribute("aria-sort");
        sort(table, th.dataset.key, now ? other(now) : th.dataset.first);
      });
      th.replaceChildren(button);
    }
    heads[0].setAttribute("aria-sort", "ascending");
  }
})();
