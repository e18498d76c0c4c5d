"""State that passes from call to call: found, lifted out of the signature, held in caches."""
