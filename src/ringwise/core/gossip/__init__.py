"""Who is up: SWIM membership with the Lifeguard extensions, as pure code."""
