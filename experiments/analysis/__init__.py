"""What follows from a run's definition alone: floor, ceiling, state capacity and cost."""
