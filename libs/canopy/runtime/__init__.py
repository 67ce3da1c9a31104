"""How units run: settings, logs, telemetry, health, time and restarts. Every unit's `unit.py` calls it."""
