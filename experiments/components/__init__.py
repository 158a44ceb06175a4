"""What a spec in a config can name, in addition to tasks and attention: mixers, norms, optimizers, schedules."""
