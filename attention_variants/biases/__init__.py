"""What is added to attention logits, evaluated block by block: position biases, forget gates, moved positions."""
