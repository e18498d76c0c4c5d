"""What every package uses: options in messages, optional libraries, locks, counted amounts."""
