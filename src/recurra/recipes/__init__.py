"""The built-in recipes, a TOML file each."""
