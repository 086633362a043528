"""Payment providers behind the `payments` port: the faithful test provider, whose cards fail on purpose."""
