"""What this machine does with each engine: the network alone, the whole pipeline, start-up, and what bounds them."""
