"""Events as HTTP requests, with retries."""

import hashlib
import hmac
import json
import logging
import os
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, field_validator, model_validator

from ecdctr.hooks.protocol import Event, FailureEvent, Hook, PromoteEvent, PublishEvent, QuarantineEvent, TableEvent
from ecdctr.settings import Settings

logger = logging.getLogger(__name__)

RETRIED = {408, 425, 429, 500, 502, 503, 504}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected request would carry the signature to another host."""

    def redirect_request(self, *args: Any) -> None:
        """Follow none."""


class Webhook(Settings, Hook):
    """Posts table commits, quarantine, publishing, promotion and failures as JSON.

    With `secret_env`, the header `X-Ecdctr-Signature` is `sha256=` and the hexadecimal HMAC-SHA-256 of the body under the
    secret in that environment variable. Answers 408, 425, 429 and 5xx, and lost connections, are tried again, each time after
    twice the pause; the header `X-Ecdctr-Delivery` is the same for all tries of one event.
    """

    url: str
    """Where to post; http or https."""
    secret_env: str | None = None
    """Name of the environment variable that holds the secret."""
    retries: int = Field(default=4, ge=0, le=10)
    """Further tries after the first."""
    pause_seconds: float = Field(default=0.5, gt=0)
    """Pause before the second try."""
    timeout_seconds: float = Field(default=10.0, gt=0)
    """Of one try."""
    _secret: bytes | None = PrivateAttr(default=None)

    @field_validator("url")
    @classmethod
    def _http(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the address must begin with http:// or https:// and name a host")
        if parts.username or parts.password:
            raise ValueError("no user or password in the address; use secret_env")
        return url

    @model_validator(mode="after")
    def _has_secret(self) -> "Webhook":
        if self.secret_env is not None:
            secret = os.environ.get(self.secret_env)
            if not secret:
                raise ValueError(f"the environment variable {self.secret_env} is not set")
            self._secret = secret.encode()
        return self

    def after_table_commit(self, event: TableEvent) -> None:
        """Post it."""
        self._post(event)

    def on_quarantine(self, event: QuarantineEvent) -> None:
        """Post it."""
        self._post(event)

    def after_publish(self, event: PublishEvent) -> None:
        """Post it."""
        self._post(event)

    def after_promote(self, event: PromoteEvent) -> None:
        """Post it."""
        self._post(event)

    def on_failure(self, event: FailureEvent) -> None:
        """Post it."""
        self._post(event)

    def _post(self, event: Event) -> None:
        body = json.dumps(event.tree(), sort_keys=True).encode()
        headers = {
            "Content-Type": "application/json",
            "X-Ecdctr-Delivery": hashlib.sha256(body).hexdigest()[:32],
        }
        if self._secret is not None:
            headers["X-Ecdctr-Signature"] = "sha256=" + hmac.new(self._secret, body, hashlib.sha256).hexdigest()
        request = urllib.request.Request(self.url, body, headers, method="POST")  # noqa: S310 - http(s), see above
        opener, pause = urllib.request.build_opener(_NoRedirect), self.pause_seconds
        for left in range(self.retries, -1, -1):
            try:
                with opener.open(request, timeout=self.timeout_seconds):
                    return
            except urllib.error.HTTPError as error:
                error.close()
                reason = f"answer {error.code}"
                if error.code not in RETRIED or left == 0:
                    raise ConnectionError(f"{urlsplit(self.url).hostname}: {reason}") from None
            except OSError as error:
                reason = type(error).__name__
                if left == 0:
                    raise ConnectionError(f"{urlsplit(self.url).hostname}: {reason}") from None
            logger.info("webhook %s: %s; trying again in %.1f s", urlsplit(self.url).hostname, reason, pause)
            time.sleep(pause)
            pause *= 2
