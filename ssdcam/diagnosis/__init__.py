"""What works on this machine, what does not, and what to do: each check runs in a process of its own."""
