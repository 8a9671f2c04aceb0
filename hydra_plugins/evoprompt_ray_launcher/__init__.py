"""`hydra/launcher=evoprompt_ray`: the jobs of a sweep beside each other on Ray."""
