"""Policies: optimization methods, rules and oracles, all of them `observation -> action`."""
