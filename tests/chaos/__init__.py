"""Breaking things on purpose: kills, damage, full disks, pulled plugs, wrong clocks. `make chaos` runs all of it."""
