"""The CORE score: 22 tasks of DCLM (arXiv 2406.11794), from the published files to centered accuracies with intervals."""
