"""What a person does to a node that no cluster helps."""
