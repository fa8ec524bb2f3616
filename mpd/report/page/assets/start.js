// The browsers of the page, each of which has data, and then what the address says.

async function started(Kind, id, data) {
  if (!document.getElementById(`data-${data}`)) return null;
  const index = await inflate(data);
  signs = index.signs;
  return new Kind(document.getElementById(id), index).start();
}

// Keys scroll only what has the focus: a table or a figure that is wider than the page can have it.
const wide = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
document.querySelectorAll(".wide, .chart").forEach((node) => wide.observe(node));

Promise.all([
  started(Answers, "answers-browser", "answers"),
  started(Trajectories, "browser", "index"),
]).then(([answers, trajectories]) => {
  Object.assign(window, { answers, browser: trajectories });
  addresses.start(...[answers, trajectories].filter((one) => one));
});
