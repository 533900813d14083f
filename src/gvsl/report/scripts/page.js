// Links open the folded parts that they lead to.
function openTarget() {
  const name = decodeURIComponent(location.hash.slice(1));
  const target = name && document.getElementById(name);
  if (!target) return;
  for (const part of target.querySelectorAll("details")) part.open = true;
  for (let part = target.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
  target.scrollIntoView();
}
window.addEventListener("hashchange", openTarget);
openTarget();

// The check boxes for neurological view in the sections are one switch.
const views = [...document.querySelectorAll("input.neurological")];
for (const box of views) {
  box.addEventListener("change", () => views.forEach((other) => { other.checked = box.checked; }));
}
