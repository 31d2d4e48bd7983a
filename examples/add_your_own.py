"""A schedule, a partitioner and a measure of one's own; CONTRIBUTING.md says what each of them has to keep to."""

import re

import numpy as np
from transformers import AutoModelForCausalLM, AutoTokenizer

import progloc
from progloc.data import Corpus, tokenise, with_block_ids
from progloc.measures.definitions import Ratio
from tiny_model import tiny_model

MODEL = tiny_model()  # or a hub name, such as "gpt2"
DIALOGUE = "Ann: The bridge is closed.\nBen: Since when?\nAnn: Since Sunday, says the keeper.\n" * 40


@progloc.register_schedule("last")  # last:K
def last_layers(argument, denominator):
    return progloc.Schedule(f"last:{argument}", lambda layers: [0.0] * (layers - int(argument)) + [1.0] * int(argument))


@progloc.register_partitioner("turns")
class Turns(progloc.Partitioner):
    def __call__(self, text):
        begins = [match.start() for match in re.finditer(r"^\w+:", text.text, re.MULTILINE)]
        return np.searchsorted(begins, text.offsets[:, 0], side="right")  # how many turns have begun, (T,)


@progloc.register_measure("keys_read", label="keys read")
def keys_read(rows):
    return Ratio(rows.entropy.exp() * rows.real, rows.real)  # e^H: over how many keys attention is spread


tokenizer = AutoTokenizer.from_pretrained(MODEL)
locality = progloc.LocalityConfig(schedule="last:1", blocks="turns")
model = progloc.localize(AutoModelForCausalLM.from_pretrained(MODEL), locality)
sequences = tokenise(Corpus("dialogue", DIALOGUE), tokenizer, sequence_length=64)
report = progloc.measure(model, with_block_ids(sequences, model.locality.partitioner))
print(report.to_frame()[["fidelity", "keys_read"]])
