"""Tables, figures and texts drawn from the results database alone; nothing here runs a model."""
