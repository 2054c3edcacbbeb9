"""How noise is put in and taken out: processes, conversions, samplers, guidance."""
