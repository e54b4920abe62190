"""The built-in plugins: methods, models, stats, metrics and behaviors, one file each."""
