"""Objects that watch a fleet: monitors, alerts, objectives, the dashboard. Only `everything` imports them."""
