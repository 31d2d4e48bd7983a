"""See what a model's answer rested on, whether that picture may be believed, and save it as a page."""

from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from progloc import LocalityConfig, audit, localize
from tiny_model import tiny_model

MODEL = tiny_model()  # or a hub name; for a folder that progloc saved, write model = progloc.load(MODEL) below
PROMPT = """The bridge was built in 1902. It is closed on Sundays. The toll is two coins. Horses pay three.
The keeper lives in the north tower. What is the toll?"""
ANSWER = " The toll is two coins."  # None: the model writes one

tokenizer = AutoTokenizer.from_pretrained(MODEL)
locality = LocalityConfig(schedule="quintic", blocks="sentences")
model = localize(AutoModelForCausalLM.from_pretrained(MODEL), locality, tokenizer)
result = audit(model, PROMPT, ANSWER, max_new_tokens=16)

print(f"Verdict: {result.verdict}. {result.examined.reasons[0]}")
print(result.to_frame()[["text", "mass_no_sink", "removal"]])  # what is shown of attention, and what removing costs
Path("audit.html").write_text(result.to_html(), encoding="utf-8")
print("the page: audit.html")
