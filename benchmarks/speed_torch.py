"""The PyTorch side of train_step.py and sample.py: networks of diffusers, run by speed.py in an environment of its own.

A training step does what ours does: x0 from bytes, t stratified over the batch, x_t = alpha x0 + sigma z, mean squared
error of the noise, gradient, clipping by the global norm, Adam (fused), EMA (one foreach lerp). Images and kernels are
channels last, float32 products on a GPU in TF32 as in JAX, bfloat16 by autocast, attention by
scaled_dot_product_attention. `compiled`: the network goes through torch.compile. Nothing of scoresde is used here.
"""

import math

import network_reference
import numpy as np
import speed
import torch

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
T_MIN, CLIP, DECAY = 1e-5, 1.0, 0.9999
VP, VE = (0.1, 20.0), (0.01, 50.0)


def alpha_sigma(process: str, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if process == "ve":
        return torch.ones_like(t), VE[0] * (VE[1] / VE[0]) ** t
    log_alpha = -0.25 * t**2 * (VP[1] - VP[0]) - 0.5 * t * VP[0]
    return log_alpha.exp(), torch.sqrt(-torch.expm1(2 * log_alpha))


def as_score_sde(model: torch.nn.Module) -> None:
    """See speed_networks.py. Parameters that come with it are drawn with the others."""
    from diffusers.models.attention_processor import Attention
    from diffusers.models.resnet import ResnetBlock2D

    for module in model.modules():
        if isinstance(module, ResnetBlock2D):
            module.output_scale_factor = 2**0.5
            if module.conv_shortcut is None and (module.up or module.down):
                module.conv_shortcut = torch.nn.Conv2d(module.in_channels, module.out_channels, 1)
        elif isinstance(module, Attention):
            module.rescale_output_factor = 2**0.5
        elif isinstance(module, torch.nn.GroupNorm):
            module.num_groups = min(module.num_channels // 4, 32)
    for block in model.up_blocks:
        for j in range(len(getattr(block, "attentions", ())) - 1):
            block.attentions[j] = torch.nn.Identity()


class Worker:
    def start(self, told: dict, batch: int, dtype: str, compiled: bool) -> dict:
        torch.manual_seed(0)
        torch.backends.cudnn.benchmark = True
        self.told, self.batch, self.dtype, self.compiled = told, batch, getattr(torch, dtype), compiled
        height, width, channels = told["shape"]
        model, _ = network_reference.NETWORKS[told["network"]](told["options"])
        if "DiT" in told["network"]:
            shared = model.transformer_blocks[
                0
            ].norm1.emb  # the published network has one embedding, this one has one a block
            for block in model.transformer_blocks:
                block.norm1.emb = shared
            shared.class_embedder.dropout_prob = 0.0
        elif told["as_score_sde"]:
            as_score_sde(model)
        network_reference.draw(model, seed=1)
        self.model = model.to(DEVICE, memory_format=torch.channels_last)
        self.network = torch.compile(self._network) if compiled else self._network
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(self.trained, lr=2e-4, fused=True)
        self.ema = [p.detach().clone() for p in self.trained]
        self.classes = told["ours"].get("num_classes", 0)
        generator = torch.Generator().manual_seed(3)
        self.images = torch.randint(
            0, 256, (batch, channels, height, width), dtype=torch.uint8, generator=generator
        ).to(DEVICE)
        self.label = torch.arange(batch, device=DEVICE) % self.classes if self.classes else None
        return {
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if CUDA else "cpu",
            "torch_threads": torch.get_num_threads(),
        }

    def _network(self, x, t, label):
        """F(x, c_noise(t)): the noise for "vp", minus the noise for "ve"."""
        if self.told["process"] == "vp":
            return self.model(x, 999.0 * t, class_labels=label).sample
        sigma = alpha_sigma("ve", t)[1]
        y = self.model(x, sigma).sample
        return y * sigma[:, None, None, None]  # the model divides by it

    def _cast(self):
        return torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def _precision(self, tf32: bool) -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32

    def _loss(self, network, x0, t, z, label):
        alpha, sigma = (v[:, None, None, None] for v in alpha_sigma(self.told["process"], t))
        x_t = (alpha * x0 + sigma * z).contiguous(memory_format=torch.channels_last)
        y = network(x_t, t, label).float()
        return torch.mean((y - z) ** 2 if self.told["process"] == "vp" else (y + z) ** 2), y

    def check(self, file: str) -> dict:
        """Output, loss and norm of the gradient for two examples without dropout, and all parameters, to `file`."""
        self._precision(False)
        self.model.eval()
        generator = torch.Generator().manual_seed(2)
        x0, z = (torch.randn(2, *self.images.shape[1:], generator=generator) for _ in range(2))
        t, label = torch.tensor([0.2, 0.7]), torch.tensor([1, 4]) if self.classes else None
        loss, y = self._loss(self._network, *(v if v is None else v.to(DEVICE) for v in (x0, t, z, label)))
        loss.backward()
        norm = torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in self.trained]))
        self.optimizer.zero_grad()
        parameters = {f"p/{name}": p.detach().cpu().numpy() for name, p in self.model.named_parameters()}
        images = {name: v.detach().cpu().numpy() for name, v in dict(x0=x0, z=z, y=y).items()}
        np.savez(file, t=t.numpy(), loss=loss.item(), norm=norm.item(), **images, **parameters)
        return {"parameters": sum(p.size for p in parameters.values())}

    def flops(self) -> dict:
        """Of forward and backward, counted by PyTorch as it runs them."""
        from torch.utils.flop_counter import FlopCounterMode

        self.model.train()
        with FlopCounterMode(display=False) as counter:
            self._backward(self._network)
        self.optimizer.zero_grad()
        return {"forward_backward": counter.get_total_flops()}

    def _backward(self, network) -> None:
        x0 = 2 * ((self.images.float() + 0.5) / 256) - 1
        u = (torch.rand((), device=DEVICE) + torch.arange(self.batch, device=DEVICE) / self.batch) % 1
        with self._cast():
            loss, _ = self._loss(network, x0, T_MIN + u * (1 - T_MIN), torch.randn_like(x0), self.label)
        loss.backward()

    def _train(self) -> None:
        self._backward(self.network)
        torch.nn.utils.clip_grad_norm_(self.trained, CLIP, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(self.ema, self.trained, 1 - DECAY)

    def _forward(self) -> None:
        x = self.images.float().contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), self._cast():
            self.network(x, self.middle, self.label)

    def time(self, what: str, repeats: int, inner: int) -> dict:
        """What: "train" or "forward"."""
        self._precision(True)
        self.model.train(what == "train")
        self.middle = torch.full((self.batch,), 0.5, device=DEVICE)
        wait = torch.cuda.synchronize if CUDA else lambda: None
        call = {"train": self._train, "forward": self._forward}[what]
        if not inner:  # compilation is apart
            call(), wait()
            if CUDA:
                torch.cuda.reset_peak_memory_stats()
        return speed.timed(call, wait, repeats, inner)

    def draw(self, what: str, file: str, save: str, repeats: int, inner: int) -> dict:
        """Samples from `file`'s x_T over its times, one plain loop: "ddim", "dpmpp_2m" or "euler". The result goes to
        `save`."""
        self._precision(not save)  # a comparison is in full float32
        self.model.eval()
        with np.load(file) as given:
            x_T = torch.tensor(given["x_T"]).to(DEVICE).contiguous(memory_format=torch.channels_last)
            times = torch.tensor(given["times"], dtype=torch.float64)
        self.result = None

        def call():
            with torch.no_grad():
                self.result = _loop(what, self._sampled, x_T, times)

        wait = torch.cuda.synchronize if CUDA else lambda: None
        if not inner:
            call(), wait()
        answer = speed.timed(call, wait, repeats, inner)
        if save:
            np.save(save, self.result.float().cpu().numpy())
        return answer

    def _sampled(self, x, t: float):
        null = torch.full((len(x),), self.classes, device=DEVICE) if self.classes else None
        with self._cast():
            return self.network(x, torch.full((len(x),), t, device=DEVICE), null).float()

    def peak(self, size: int, dtype: str) -> dict:
        self._precision(True)
        a, b = (torch.randn(size, size, device=DEVICE).to(getattr(torch, dtype)) for _ in range(2))
        wait = torch.cuda.synchronize if CUDA else lambda: None
        found = speed.timed(lambda: a @ b, wait, 5, 0)
        return {"flops_per_s": 2 * size**3 / min(found["seconds" if CUDA else "cpu_seconds"])}

    def memory(self) -> dict:
        if CUDA:
            return {"peak_bytes": torch.cuda.max_memory_allocated()}
        return {"peak_bytes": speed.peak_memory()}


def _loop(what: str, noise, x, times: torch.Tensor):
    """The update of the sampler with coefficients in float64, one call of the network a step."""
    alphas, sigmas = alpha_sigma("vp", times)
    half_log_snr = (alphas / sigmas).log()
    older = None
    for i in range(len(times) - 1):
        t, step = times[i].item(), (times[i + 1] - times[i]).item()
        a, s, a1, s1 = (v.item() for v in (alphas[i], sigmas[i], alphas[i + 1], sigmas[i + 1]))
        eps = noise(x, t)
        if what == "euler":  # of the probability flow
            beta = VP[0] + t * (VP[1] - VP[0])
            x = x + step * (-0.5 * beta * x + 0.5 * beta / s * eps)
            continue
        data = (x - s * eps) / a
        h = (half_log_snr[i + 1] - half_log_snr[i]).item()
        gain, mixed = -a1 * math.expm1(-h), data
        if what == "dpmpp_2m" and older is not None:
            r = (half_log_snr[i] - half_log_snr[i - 1]).item() / h
            mixed = (1 + 0.5 / r) * data - 0.5 / r * older
        x, older = s1 / s * x + gain * mixed, data
    return x


if __name__ == "__main__":
    speed.serve(Worker())
