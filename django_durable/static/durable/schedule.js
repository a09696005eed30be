/* Shows the next times of the cron expression that is being typed. Without it the form works, too. */
"use strict";

document.addEventListener("DOMContentLoaded", () => {
    const list = document.querySelector(".durable-preview[data-url]");
    const fields = ["id_cron", "id_timezone"].map((id) => document.getElementById(id));
    if (!list || fields.includes(null)) {
        return;
    }
    let timer = 0;
    let asked = 0;

    function show(lines, refused) {
        list.replaceChildren(...lines.map((line) => {
            const item = document.createElement("li");
            item.textContent = line;
            item.classList.toggle("durable-refused", refused);
            return item;
        }));
    }

    async function ask() {
        const [cron, timezone] = fields.map((field) => field.value.trim());
        const number = ++asked;
        if (!cron) {
            show([], false);
            return;
        }
        const response = await fetch(`${list.dataset.url}?${new URLSearchParams({cron, timezone})}`);
        if (!response.ok || number !== asked) {
            return;
        }
        const answer = await response.json();
        show(answer.times || [answer.problem], !answer.times);
    }

    for (const field of fields) {
        field.addEventListener("input", () => {
            clearTimeout(timer);
            timer = setTimeout(ask, 250);
        });
    }
});
