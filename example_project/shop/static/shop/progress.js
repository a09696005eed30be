"use strict";

// Shows an order's progress until its job is finished, and the buttons that make sense meanwhile.
const place = document.getElementById("progress");
const INTERVAL_MILLISECONDS = 500;

async function refresh() {
  try {
    const answer = await fetch(place.dataset.url, { headers: { Accept: "text/html" } });
    if (answer.ok) show(await answer.text());
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // else the network was away: ask again
  }
  schedule();
}

function show(html) {
  place.innerHTML = html;
  const facts = place.querySelector("[data-is]").dataset.is.split(" ");
  for (const form of document.querySelectorAll("[data-shown-if]")) {
    form.hidden = !facts.includes(form.dataset.shownIf);
  }
}

function schedule() {
  if (!place.querySelector("[data-finished]")) setTimeout(refresh, INTERVAL_MILLISECONDS);
}

schedule();
