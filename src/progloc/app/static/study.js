import { ask, attempt, byId } from "./ask.js";

const AGAIN = 5000; // milliseconds

byId("enter")?.addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    await ask("/study/rater", { name: byId("name").value });
    location.reload();
  });
});

byId("leave")?.addEventListener("click", async () => {
  await ask("/study/leave", {});
  location.assign("/study");
});

if (byId("preparing")) setTimeout(() => location.reload(), AGAIN);

const form = byId("rate");
if (form) {
  const item = Number(form.dataset.item);
  let comment = byId("comment").value;

  form.addEventListener("change", async ({ target }) => {
    if (target.type !== "radio") return;
    const mark = target.closest("fieldset").querySelector(".stored");
    mark.textContent = "…";
    const { label, scale } = target.dataset;
    const stored = await attempt(async () => {
      const { answered, questions } = await ask("/study/ratings", { item, label, scale, score: Number(target.value) });
      byId("stored").textContent = `${answered} of ${questions} answered; all stored.`;
      byId("next").disabled = answered < questions;
    });
    mark.textContent = stored ? "✓" : "";
    if (!stored) target.checked = false;
  });

  // what was typed is stored when the field is left, and before the page is
  const keep = async () => {
    const text = byId("comment").value;
    if (text === comment) return;
    await ask("/study/comments", { item, text });
    comment = text;
  };
  byId("comment").addEventListener("change", () => attempt(keep));
  byId("next").addEventListener("click", () =>
    attempt(async () => {
      await keep();
      location.assign("/study");
    }),
  );
}
