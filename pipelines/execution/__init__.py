"""Many tasks, each one video and one stage, on one core, several processes or a cluster."""
