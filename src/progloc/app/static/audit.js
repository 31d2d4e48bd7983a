import { ask, byId } from "./ask.js";

const AGAIN = 500; // milliseconds

function inWords(job) {
  if (job.state === "waiting") {
    return job.position ? `Waiting; ${job.position} before it.` : "Waiting.";
  }
  if (job.state !== "running") return job.message ?? job.state;
  if (job.passes === null) return "Reading, and writing the answer.";
  return `${job.passes_done} of ${job.passes} forward passes; ${job.tokens.toLocaleString("en")} tokens in all.`;
}

async function follow(id) {
  for (;;) {
    let job;
    try {
      job = await ask(`/audits/${id}/state`);
    } catch (error) {
      byId("state").textContent = error.message;
    }
    if (job?.state === "done") return location.reload();
    if (job) {
      byId("state").textContent = inWords(job);
      if (job.state !== "waiting" && job.state !== "running") {
        byId("bar").remove();
        return byId("cancel").remove();
      }
      if (job.passes) Object.assign(byId("bar"), { max: job.passes, value: job.passes_done });
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN));
  }
}

const waiting = byId("waiting");
if (waiting && ["waiting", "running"].includes(waiting.dataset.state)) {
  follow(waiting.dataset.job);
  byId("cancel").addEventListener("click", async () => {
    byId("cancel").disabled = true;
    await ask(`/audits/${waiting.dataset.job}/cancel`, {}).catch(() => (byId("cancel").disabled = false));
  });
}

for (const choice of document.querySelectorAll("[name=view]")) {
  choice.addEventListener("change", () => {
    byId("whole").hidden = choice.value !== "whole";
    byId("pair").hidden = choice.value !== "pair";
  });
}
