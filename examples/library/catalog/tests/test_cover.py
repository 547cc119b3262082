import io
import tempfile
from pathlib import Path
from unittest import mock

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import TestCase
from django.urls import reverse
from PIL import Image

from catalog.models import Book


def picture(name="cover.png", kind="PNG", color="teal"):
    content = io.BytesIO()
    Image.new("RGB", (40, 60), color).save(content, kind)
    return SimpleUploadedFile(name, content.getvalue())


class CoverTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.book = Book.objects.get(title="Emma")
        cls.page = reverse("catalog:book-cover", args=[cls.book.pk])
        cls.staff = get_user_model().objects.create_user("staff", is_staff=True)
        cls.staff.user_permissions.add(Permission.objects.get(codename="change_book"))

    def setUp(self):
        self.media = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.enterContext(self.settings(MEDIA_ROOT=self.media))
        self.client.force_login(self.staff)

    def upload(self, file, **kwargs):
        with self.captureOnCommitCallbacks(execute=True):
            return self.client.post(self.page, {"cover": file}, **kwargs)

    def files(self):
        return sorted(path.name for path in self.media.rglob("*") if path.is_file())

    def test_upload_and_see_it(self):
        response = self.upload(picture(), follow=True)
        self.assertRedirects(response, self.book.get_absolute_url())
        self.assertContains(response, "has a new cover")
        self.assertContains(response, '<img src="/media/covers/cover.png"')
        self.assertTrue((self.media / "covers/cover.png").is_file())

    def test_the_new_one_replaces_the_old_one(self):
        self.upload(picture("old.png"))
        self.upload(picture("new.webp", "WEBP"))
        self.assertEqual(self.files(), ["new.webp"])
        self.upload(picture("new.webp", "WEBP", "red"))
        self.book.refresh_from_db()
        self.assertEqual([f"covers/{name}" for name in self.files()], [self.book.cover.name])

    def test_what_is_refused(self):
        cases = [
            ("nothing", "", "required"),
            ("text", SimpleUploadedFile("cover.png", b"hello"), "valid image"),
            ("script", SimpleUploadedFile("cover.svg", b"<svg/>"), "valid image"),
            ("wrong name", picture("cover.html"), "not allowed"),
            ("other format", picture("cover.gif", "GIF"), "JPEG, PNG or WebP"),
        ]
        for name, file, error in cases:
            with self.subTest(name):
                response = self.upload(file)
                self.assertContains(response, 'class="errorlist"')
                self.assertContains(response, error)
                self.assertEqual(self.files(), [])

    def test_too_large(self):
        with mock.patch("catalog.forms.MAX_COVER_MB", 0):
            self.assertContains(self.upload(picture()), "larger than 0 MB")
        self.assertEqual(self.files(), [])

    def test_only_with_the_permission(self):
        self.client.logout()
        self.assertRedirects(self.upload(picture()), f"{reverse('login')}?next={self.page}")
        self.client.force_login(get_user_model().objects.create_user("reader"))
        self.assertEqual(self.upload(picture()).status_code, 403)
        self.assertEqual(self.files(), [])

    def test_the_book_links_to_the_form(self):
        self.assertContains(self.client.get(self.book.get_absolute_url()), self.page)
        self.assertContains(self.client.get(self.page), "multipart/form-data")
