# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers, and the error bodies of Redfish and of vendors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

# Message id in the Base registry -> severity, text. %1 and so on are replaced by the arguments.
BASE = "Base.1.18"
TEXTS: dict[str, tuple[str, str]] = {
    "Success": ("OK", "The request completed successfully."),
    "Created": ("OK", "The resource was created successfully."),
    "GeneralError": ("Critical", "A general error has occurred. See Resolution for information on how to resolve it."),
    "MalformedJSON": ("Critical", "The request body submitted was malformed JSON and could not be parsed."),
    "UnrecognizedRequestBody": ("Warning", "The service detected a malformed request body that it cannot interpret."),
    "EmptyJSON": ("Warning", "The request body submitted contained an empty JSON object."),
    "HeaderInvalid": ("Warning", "Header '%1' is invalid."),
    "HeaderMissing": ("Critical", "Header '%1' is missing in the request."),
    "PreconditionFailed": ("Critical", "The ETag supplied did not match the ETag required to change this resource."),
    "PreconditionRequired": ("Critical", "A precondition header or annotation is required to change this resource."),
    "NoValidSession": ("Critical", "There is no valid session established with the implementation."),
    "ResourceAtUriUnauthorized": ("Critical", "%2. The service is not authorized to reach the resource at '%1'."),
    "InsufficientPrivilege": ("Critical", "There are insufficient privileges for the account to do this operation."),
    "SessionLimitExceeded": ("Critical", "The session establishment failed: too many simultaneous sessions."),
    "ResourceMissingAtURI": ("Critical", "The resource at the URI '%1' was not found."),
    "ResourceAlreadyExists": ("Critical", "The resource of type '%1' with property '%2' of '%3' already exists."),
    "ResourceInUse": ("Warning", "The change to the requested resource failed because the resource is in use."),
    "ResourceCannotBeDeleted": ("Critical", "The delete request failed because the resource cannot be deleted."),
    "ResourceInStandby": ("Critical", "The request could not be performed because the resource is in standby."),
    "OperationNotAllowed": ("Critical", "The HTTP method is not allowed on this resource."),
    "PropertyUnknown": ("Warning", "The property '%1' is not in the list of valid properties for the resource."),
    "PropertyNotWritable": ("Warning", "The property '%1' is a read-only property and cannot be assigned a value."),
    "PropertyMissing": ("Warning", "The property '%1' is a required property and must be in the request."),
    "PropertyValueNotInList": (
        "Warning",
        "The value '%1' for the property '%2' is not in the list of accepted values.",
    ),
    "PropertyValueTypeError": ("Warning", "The value '%1' for the property '%2' is not a type that it accepts."),
    "PropertyValueFormatError": ("Warning", "The value for the property '%2' is not in a format that it accepts."),
    "PropertyValueConflict": ("Warning", "The property '%1' could not be written: its value conflicts with '%2'."),
    "PropertyValueOutOfRange": ("Warning", "The value '%1' for the property '%2' is not in the supported range."),
    "PasswordChangeRequired": ("Critical", "The password for this account must be changed: PATCH Password of '%1'."),
    "ActionNotSupported": ("Critical", "The action '%1' is not supported by the resource."),
    "ActionParameterMissing": ("Critical", "The action '%1' requires the parameter '%2' to be present."),
    "ActionParameterUnknown": ("Warning", "The action '%1' was submitted with the invalid parameter '%2'."),
    "ActionParameterNotSupported": ("Warning", "The parameter '%1' for the action '%2' is not supported."),
    "ActionParameterValueNotInList": (
        "Warning",
        "The value '%1' for the parameter '%2' in the action '%3' is not valid.",
    ),
    "ActionParameterValueTypeError": (
        "Warning",
        "The value '%1' for the parameter '%2' in the action '%3' is not valid.",
    ),
    "ActionParameterValueConflict": ("Warning", "The parameter '%1' with value '%2' conflicts with another parameter."),
    "InvalidURI": ("Warning", "The URI '%1' is not valid or not supported."),
    "QueryNotSupported": ("Warning", "Querying is not supported by the implementation."),
    "QueryNotSupportedOnResource": ("Warning", "Querying is not supported on the requested resource."),
    "QueryParameterValueFormatError": (
        "Warning",
        "The value '%1' for the parameter '%2' is not in an accepted format.",
    ),
    "QueryParameterOutOfRange": ("Warning", "The value '%1' for the query parameter %2 is out of the range %3."),
    "QueryCombinationInvalid": ("Warning", "Two or more query parameters in the request cannot be used together."),
    "InternalError": ("Critical", "The request failed due to an internal service error. The service is operational."),
    "ServiceTemporarilyUnavailable": ("Critical", "The service is temporarily unavailable. Retry in %1 seconds."),
    "ServiceInUnknownState": ("Critical", "The operation failed: the service is in an unknown state."),
    "OperationFailed": ("Warning", "An error occurred internal to the service as part of the overall request."),
    "OperationTimeout": ("Warning", "A timeout internal to the service occurred as part of the request."),
    "CreateFailedMissingReqProperties": ("Critical", "The create operation failed: the property %1 is missing."),
}


@dataclass
class Reply:
    """What a BMC answers. `body`: a JSON value, or bytes that go out as they are."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """Raised by a handler that has changed nothing."""

    def __init__(self, status: int, message_id: str, *args: Any, text: str | None = None, related: str = "") -> None:
        super().__init__(message_id)
        self.reply = refusal(status, message_id, *args, text=text, related=related)


def message(message_id: str, *args: Any, text: str | None = None, related: str = "") -> Json:
    """An entry of ExtendedInfo. An id without a dot is one of the Base registry."""
    severity, known = TEXTS.get(message_id, ("Critical", text or message_id))
    said = known if text is None else text
    for number, value in enumerate(args, 1):
        said = said.replace(f"%{number}", str(value))
    found: Json = {
        "@odata.type": "#Message.v1_2_1.Message",
        "MessageId": message_id if "." in message_id else f"{BASE}.{message_id}",
        "Message": said,
        "MessageArgs": [str(value) for value in args],
        "MessageSeverity": severity,
        "Resolution": "See the message.",
    }
    if related:
        found["RelatedProperties"] = [related]
    return found


def error_body(*found: Json, as_object: bool = False) -> Json:
    """`as_object`: ExtendedInfo is one object instead of a list, as old iDRAC firmware sends it."""
    info: Any = found[0] if as_object else list(found)
    first = found[0]
    return {"error": {"code": first["MessageId"], "message": first["Message"], "@Message.ExtendedInfo": info}}


def refusal(status: int, message_id: str, *args: Any, text: str | None = None, related: str = "") -> Reply:
    return Reply(status, error_body(message(message_id, *args, text=text, related=related)))
