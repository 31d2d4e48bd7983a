"""The experiments of the paper: a plan of runs, made once each, audits over them, and the report on them."""
