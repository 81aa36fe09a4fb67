"""Studies on a cluster: RayJobs for KubeRay, their checks, and what is asked of kubectl."""
