"""What CORE's fast way of scoring is held against: one option at a time, and a model that hashes what each token sees."""
