"""The page on structured output: a weather service in every kind of type that has a schema."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

mcp = MCPServer("Weather Service")


class WeatherData(BaseModel):
    """Weather information."""

    temperature: float = Field(description="Temperature in Celsius")
    humidity: float = Field(description="Humidity percentage", ge=0, le=100)
    condition: str
    wind_speed: float


class LocationInfo(TypedDict):
    latitude: float
    longitude: float
    name: str


class DayForecast(BaseModel):
    day: datetime
    high: float
    low: float
    alerts: list[str] = Field(default_factory=list)


class Forecast(BaseModel):
    place: str
    days: list[DayForecast]


@dataclass
class Statistics:
    mean: float
    count: int
    unit: str = "C"


class UserProfile:
    name: str
    age: int
    email: str | None = None

    def __init__(self, name: str, age: int, email: str | None = None) -> None:
        self.name = name
        self.age = age
        self.email = email

    def __str__(self) -> str:
        return self.name


class UntypedConfig:
    def __init__(self, setting: str) -> None:
        self.setting = setting

    def __str__(self) -> str:
        return f"config {self.setting}"


@mcp.tool()
def get_weather(city: str) -> WeatherData:
    """Get weather for a city - returns structured data."""
    return WeatherData(temperature=22.5, humidity=45.0, condition="sunny", wind_speed=5.2)


@mcp.tool()
def get_location(address: str) -> LocationInfo:
    return LocationInfo(latitude=51.5074, longitude=-0.1278, name=address)


@mcp.tool()
def get_forecast(place: str, days: int = 2) -> Forecast:
    """Get a forecast of several days."""
    made = [DayForecast(day=datetime(2026, 1, 1 + each), high=10 + each, low=each) for each in range(days)]
    return Forecast(place=place, days=made)


@mcp.tool()
def get_statistics(values: list[float]) -> Statistics:
    return Statistics(mean=sum(values) / len(values), count=len(values))


@mcp.tool()
def get_readings(kind: str) -> dict[str, float]:
    return {"morning": 18.5, "noon": 24.0}


@mcp.tool()
def get_user(user_id: str) -> UserProfile:
    return UserProfile("Alice", 30)


@mcp.tool()
def get_config() -> UntypedConfig:
    """No type hints, so no structured output."""
    return UntypedConfig("a")


@mcp.tool()
def list_cities() -> list[str]:
    return ["London", "Paris", "Tokyo"]


@mcp.tool()
def get_temperature(city: str) -> float:
    return 22.5


@mcp.tool(structured_output=False)
def raw_report(city: str) -> dict[str, Any]:
    return {"city": city, "sky": None}


TALK = [
    ("tools/list", {}),
    ("tools/call", {"name": "get_weather", "arguments": {"city": "London"}}),
    ("tools/call", {"name": "get_location", "arguments": {"address": "London"}}),
    ("tools/call", {"name": "get_forecast", "arguments": {"place": "London"}}),
    ("tools/call", {"name": "get_statistics", "arguments": {"values": [1, 2.5]}}),
    ("tools/call", {"name": "get_readings", "arguments": {"kind": "t"}}),
    ("tools/call", {"name": "get_user", "arguments": {"user_id": "1"}}),
    ("tools/call", {"name": "get_config", "arguments": {}}),
    ("tools/call", {"name": "list_cities", "arguments": {}}),
    ("tools/call", {"name": "get_temperature", "arguments": {"city": "Paris"}}),
    ("tools/call", {"name": "raw_report", "arguments": {"city": "Paris"}}),
]
