"""Localise a Hugging Face model on a text, see what that cost in perplexity, and save it."""

from transformers import AutoModelForCausalLM, AutoTokenizer, TrainingArguments

from progloc import LocalistTrainer, LocalityConfig, localize, measure
from progloc.data import load_corpus, split, tokenise
from tiny_model import tiny_model

MODEL = tiny_model()  # or a hub name, such as "gpt2"
CORPUS = "python-docs"  # or a text file of yours
SEQUENCES = 200  # None for the whole text

tokenizer = AutoTokenizer.from_pretrained(MODEL)
sequences = tokenise(load_corpus(CORPUS), tokenizer, sequence_length=128)
parts = split(sequences, validation_fraction=0.2, seed=0, max_sequences=SEQUENCES)

locality = LocalityConfig(schedule="quintic", blocks="fixed:5", alpha=0.5)
model = localize(AutoModelForCausalLM.from_pretrained(MODEL), locality)
before = measure(model, parts.validation)

arguments = TrainingArguments(
    "checkpoints", learning_rate=3e-3, num_train_epochs=2, save_strategy="no", report_to="none"
)
LocalistTrainer(model, arguments, train_dataset=parts.train).train()
after = measure(model, parts.validation)

for when, report in (("before", before), ("after", after)):
    last = report.layers[-1]
    print(f"{when}: perplexity {report.perplexity:.1f}, last layer's fidelity {last.fidelity:.3f}")

model.save_pretrained("my-local-model")  # a plain Hugging Face folder, and locality.json
tokenizer.save_pretrained("my-local-model")
