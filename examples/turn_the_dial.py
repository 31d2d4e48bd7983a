"""Make a localised model more local while it runs: what that does to perplexity, to attention and to its text."""

from transformers import AutoModelForCausalLM, AutoTokenizer

from progloc import LocalityConfig, dial, localize, measure
from progloc.data import load_corpus, split, tokenise
from tiny_model import tiny_model

MODEL = tiny_model()  # or a hub name; for a folder that progloc saved, write model = progloc.load(MODEL) below
CORPUS = "python-docs"  # or a text file of yours

tokenizer = AutoTokenizer.from_pretrained(MODEL)
model = localize(AutoModelForCausalLM.from_pretrained(MODEL), LocalityConfig(schedule="linear", blocks="fixed:5"))
sequences = tokenise(load_corpus(CORPUS), tokenizer, sequence_length=128)
held_out = split(sequences, validation_fraction=0.5, seed=0, max_sequences=40).validation
prompt = tokenizer("A class is", return_tensors="pt")

for delta in (0.0, 0.5, 0.9, 1.0):  # from as trained to strictly local, in layers with λ = 1
    with dial(model, delta):
        report = measure(model, held_out)
        written = model.generate(**prompt, max_new_tokens=12, do_sample=False)
    print(f"δ = {delta}: perplexity {report.perplexity:.1f}, fidelity {report.fidelity:.3f}")
    print(f"         {tokenizer.decode(written[0])!r}")
