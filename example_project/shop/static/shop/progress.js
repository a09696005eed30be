"use strict";

// Shows an order's progress until its job is finished.
const place = document.getElementById("progress");
const INTERVAL_MILLISECONDS = 500;

async function refresh() {
  try {
    const answer = await fetch(place.dataset.url, { headers: { Accept: "text/html" } });
    if (answer.ok) place.innerHTML = await answer.text();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // else the network was away: ask again
  }
  schedule();
}

function schedule() {
  if (!place.querySelector("[data-finished]")) setTimeout(refresh, INTERVAL_MILLISECONDS);
}

schedule();
