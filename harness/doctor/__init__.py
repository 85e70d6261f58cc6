"""What is wrong with a run's router, said in words, and what to type next.

Reads a run folder alone, finished or not, and imports no torch. `patient` reads it, `load` and `learning` hold one function a
diagnosis, `thresholds` every number they compare with and where it comes from, `commands` the way out as words that compose,
`diagnose` puts them together and `telling` prints them.
"""
