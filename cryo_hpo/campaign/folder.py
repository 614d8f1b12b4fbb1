"""Manage a campaign's folder on the shared storage; its cells' folders lie beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..config import differences, dump_campaign, load_campaign
from ..errors import SpecError
from ..study import folder as folders

if TYPE_CHECKING:
    from ..config import Campaign, Site

CAMPAIGN = folders.CAMPAIGN


def refuse_another(campaign: Campaign, site: Site) -> None:
    """Refuse a name that a study or another campaign has; writes nothing.

    Raises:
        SpecError: The name belongs to a study, or to another campaign.
    """
    path = site.storage / campaign.name
    if (path / folders.SPEC).is_file():
        message = (
            f"{path / folders.SPEC}: a name belongs to one spec, '{campaign.name}' is a study. "
            "Give this campaign a new name."
        )
        raise SpecError(message)
    file = path / CAMPAIGN
    changed = differences(load_campaign(file), campaign) if file.is_file() else []
    if changed:
        message = (
            f"{file}: a campaign's name belongs to one spec, this file holds another "
            f"'{campaign.name}': {'; '.join(changed)}. Give this campaign a new name, or remove "
            f"'{path}' and the folders '{campaign.name}.*' beside it."
        )
        raise SpecError(message)


def claim(campaign: Campaign, site: Site) -> Path:
    """Make the campaign's folder.

    Raises:
        SpecError: The name belongs to another spec.
        StorageError: The folder cannot be written.
    """
    refuse_another(campaign, site)
    return folders.make(site.storage / campaign.name)


def keep_spec(campaign: Campaign, folder: Path) -> None:
    """Write the resolved spec, which takes the campaign's name.

    Raises:
        StorageError: The folder cannot be written.
    """
    folders.keep(folder / CAMPAIGN, dump_campaign(campaign))
