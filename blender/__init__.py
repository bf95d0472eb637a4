"""The synthetic world: scenes sampled with numpy, rendered by Blender in a process of its own."""
