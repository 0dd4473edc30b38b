"""The partitioner: reads metadata, cuts sample ranges, gives them to ranks. Never loads a model."""
