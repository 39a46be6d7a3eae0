"""Days of load, sun, weather and prices: the schema, the frozen sets and the importers."""
