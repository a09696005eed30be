// Keeps the bars of {% job_progress %} up to date until their jobs are finished.

const INTERVAL = 1000; // milliseconds between two questions
const LONGEST_INTERVAL = 30000; // when the server does not answer

class DurableProgress extends HTMLElement {
  connectedCallback() {
    if (!this.hasAttribute("finished")) this.schedule(INTERVAL);
  }

  disconnectedCallback() {
    clearTimeout(this.timer);
  }

  schedule(pause) {
    clearTimeout(this.timer);
    if (this.isConnected) this.timer = setTimeout(() => this.ask(pause), pause);
  }

  async ask(pause) {
    let answer = null;
    try {
      answer = await fetch(this.getAttribute("src"), { headers: { Accept: "application/json" } });
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // else the network is away: ask again
    }
    if (answer?.status === 404) return; // the job has been pruned
    if (!answer?.ok) return this.schedule(Math.min(pause * 2, LONGEST_INTERVAL));
    const standing = await answer.json();
    this.show(standing);
    if (!standing.is_finished) return this.schedule(INTERVAL);
    this.setAttribute("finished", "");
    const detail = { detail: standing, bubbles: true };
    this.dispatchEvent(new CustomEvent("durable-progress-finished", detail));
  }

  show(standing) {
    this.setAttribute("state", standing.state);
    const bar = this.querySelector("progress");
    const value = valueOfBar(standing);
    if (value === null) bar.removeAttribute("value");
    else bar.value = value;
    bar.setAttribute("aria-valuetext", standing.count_text);
    this.tell("note", standing.note);
    this.tell("count", standing.count_text);
    this.tell("state", standing.state_text);
  }

  tell(part, text) {
    const place = this.querySelector(`.durable-progress-${part}`);
    if (place.textContent !== text) place.textContent = text; // what changes is read aloud
  }
}

function valueOfBar(standing) {
  if (standing.state === "SUCCESSFUL") return 1;
  return standing.fraction ?? (standing.is_finished ? 0 : null);
}

customElements.define("durable-progress", DurableProgress);
