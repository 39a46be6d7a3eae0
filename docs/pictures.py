"""Makes the pictures of the documentation again: `python docs/pictures.py`."""

from __future__ import annotations

from pathlib import Path

from prosumer_gym.baselines.registry import make_policy
from prosumer_gym.envs import TwoStageEnv
from prosumer_gym.envs.rendering import save_picture

if __name__ == "__main__":
    env = TwoStageEnv("tehran-v0", "ieee33", split="test")
    policy = make_policy("er-saa", "mpc")
    policy.fit(env.community, env.dataset.training_history())
    policy.reset(0)
    path = save_picture(Path(__file__).parent / "img" / "render.png", env, policy.act, "2023-06-30", 11)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
