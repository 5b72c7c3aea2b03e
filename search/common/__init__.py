"""What all rooms of the service use: errors, files, the machine, provenance, redaction of secrets, threads."""
