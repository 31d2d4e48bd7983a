import { ask, attempt, byId } from "./ask.js";

byId("dial").addEventListener("input", () => {
  byId("dial_value").value = Number(byId("dial").value);
});

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const button = event.target.querySelector("button");
  button.disabled = true;
  attempt(async () => {
    const job = await ask("/audits", {
      prompt: byId("prompt").value,
      continuation: byId("continuation").value || null,
      max_new_tokens: Number(byId("max_new_tokens").value),
      dial: Number(byId("dial").value),
      compare: byId("compare")?.checked ?? false,
    });
    location.assign(`/audits/${job.id}`);
  }).finally(() => {
    button.disabled = false;
  });
});
