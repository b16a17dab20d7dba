"""The settings: model, sources, rules across keys, rendering. `mta_front.config` is the way in."""
