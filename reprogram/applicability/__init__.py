"""How near a new input is to the labelled examples: measures, one file each, and what a program keeps of the examples."""
